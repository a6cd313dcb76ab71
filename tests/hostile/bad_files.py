"""Bad files beside a study: each row is a file's content, the mistake, and words of the message.

The kind of a row says which field of the study names the file (`FIELDS`).
"""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable

from hostile.bad_specs import JUDGE, _aliases, _deep

Row = tuple[str, str | bytes | Callable[[], bytes], str, tuple[str, ...]]

VALUES = (
    "achievement", "benevolence", "conformity", "hedonism", "power", "security", "self-direction",
    "stimulation", "tradition", "universalism",
)  # fmt: skip
HEADER = "name," + ",".join(VALUES)
FIELDS: dict[str, str] = {
    "pack": "prompting: {pack: FILE}",
    "rubric": f"scorers: {{x: {{{JUDGE}, rubric: FILE}}}}\n"
    "benchmarks: {hexphi: {file: hexphi, scorer: x}}",
    "profiles": "profiles: [{file: FILE}]",
    "survey": "profiles: [{survey: FILE, nearest: 1, items: items.yaml}]\ndata: .\nbenchmarks: {rtp: {file: rtp.csv}}",
    "items": "profiles: [{survey: survey.csv, nearest: 1, items: FILE}]\ndata: .\nbenchmarks: {rtp: {file: rtp.csv}}",
    "hypotheses": "analysis: {hypotheses: FILE}",
    "human": "benchmarks: {rtp: {file: rtp.csv, limit: 4, human: FILE}}",
    "map": "benchmarks: {rtp: {file: rtp.csv, limit: 4, mapped: FILE}}",
    "rtp": "data: .\nbenchmarks: {rtp: {file: FILE}}",
    "hbr": "data: .\nbenchmarks: {hbr: {file: FILE}}",
    "beavertails": "data: .\nbenchmarks: {beavertails: {file: FILE}}",
    "xstest": "data: .\nbenchmarks: {xstest: {file: FILE}}",
    "strongreject": "data: .\nbenchmarks: {strongreject: {file: FILE}}",
    "questionnaire": "data: .\nbenchmarks: {questionnaire: {file: FILE}}",
    "pvq": "data: .\nbenchmarks: {questionnaire: {file: FILE, key: pvq40}}",
    "arguments": "data: .\nbenchmarks: {rtp: {file: rtp.csv}}\ncorpus: {arguments: FILE}\narms: [vim]",
    "grammar": "data: .\nbenchmarks: {rtp: {file: rtp.csv}}\n"
    "corpus: {arguments: arguments.tsv, benign: {grammar: {file: FILE}}}\narms: ['benign:grammar']",
    "alpaca": "data: .\nbenchmarks: {rtp: {file: rtp.csv}}\n"
    "corpus: {arguments: arguments.tsv, benign: {alpaca: {file: FILE}}}\narms: ['benign:alpaca']",
}  # fmt: skip
"""The lines of a study that name a file of each kind, as FILE."""

ITEMS = "values:\n" + "".join(f"  {v}: [i{n}]\n" for n, v in enumerate(VALUES))
ITEMS += "lowest: 1\nhighest: 6\nreversed: true\nmissing: [99]\n"
SURVEY = ",".join(f"i{n}" for n in range(10))


def _pack(old: str, new: str) -> Callable[[], bytes]:
    def make() -> bytes:
        from unharm.study.demo import data_folder

        text = (data_folder() / "pack.yaml").read_text(encoding="utf-8")
        assert old in text, old
        return text.replace(old, new, 1).encode()

    return make


def _gzipped(size: int) -> Callable[[], bytes]:
    def make() -> bytes:
        out = io.BytesIO()
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=9) as file:
            block = b" " * (1 << 20)
            for _ in range(size >> 20):
                file.write(block)
        return out.getvalue()

    return make


def workbook(sheet: str, strings: str = "", padding: int = 0) -> bytes:
    """A minimal .xlsx file with this sheet; `padding` megabytes of spaces are in its shared strings."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        f'<Override PartName="/xl/workbook.xml" ContentType="{kind}.sheet.main+xml"/>'
        f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{kind}.worksheet+xml"/>'
        f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}.sharedStrings+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="a" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{package}/relationships">'
        f'<Relationship Id="r1" Type="{office}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="r2" Type="{office}/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": sheet.replace("MAIN", main),
        "xl/sharedStrings.xml": strings or f'<sst xmlns="{main}"/>',
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        if padding:
            with archive.open("xl/padding.xml", "w") as file:
                for _ in range(padding):
                    file.write(b" " * (1 << 20))
    return out.getvalue()


ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + ']><worksheet xmlns="MAIN"><sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>&j;</t></is></c></row>'
    "</sheetData></worksheet>"
)
MANY_ROWS = (
    '<worksheet xmlns="MAIN"><sheetData>'
    + "".join(f'<row r="{n}"><c r="A{n}"><v>1</v></c></row>' for n in range(1, 60))
    + "</sheetData></worksheet>"
)
FAR_ROW = '<worksheet xmlns="MAIN"><sheetData><row r="1048576"><c r="A1048576"><v>1</v></c></row></sheetData></worksheet>'


def _beaver(**row: object) -> str:
    return json.dumps([row])


FILES: list[Row] = [
    # ---- prompt packs ------------------------------------------------------------------
    ("pack", "", "an empty pack", ("missing",)),
    ("pack", "- a\n", "a list", ("mapping",)),
    ("pack", "ask: 5\n", "a number as wording", ("wording is missing",)),
    ("pack", _pack("{prompt}", "{prompt:>9999999999}"), "a slot that makes 10 GB", ("{prompt", "format")),
    ("pack", _pack("{prompt}", "{prompt:d}"), "a slot read as number", ("format",)),
    ("pack", _pack("{prompt}", "{prompt!r}"), "a slot with a conversion", ("format",)),
    ("pack", _pack("{prompt}", "{prompt.__class__}"), "an attribute", ("slot",)),
    ("pack", _pack("{prompt}", "{prompt[0]}"), "an index", ("slot",)),
    ("pack", _pack("{prompt}", "{0}"), "a slot with a number", ("slot",)),
    ("pack", _pack("{prompt}", "{}"), "a slot without name", ("slot",)),
    ("pack", _pack("{prompt}", "{prompt} {answer}"), "an unknown slot", ("unknown slot",)),
    ("pack", _pack("{prompt}", "prompt"), "no slot", ("slot {prompt} is missing",)),
    ("pack", _pack("{prompt}", "{prompt} {"), "half a slot", ("template",)),
    ("pack", _pack("{prompt}", "{prompt:{prompt}}"), "a slot in a slot", ("format",)),
    ("pack", _pack("name: toy", "name: &a [*a]"), "an alias inside itself", ("alias",)),
    ("pack", _pack("name: toy", _aliases(9)), "aliases without end", ("alias",)),
    ("pack", _pack("achievement:", "achivement:"), "a misspelt value", ("definition is missing",)),
    ("pack", _pack("importance:", "importants:"), "no words of importance", ("6 phrases",)),
    ("pack", _pack("name: toy", "name: !!binary aGk="), "bytes in a pack", ("unknown tag",)),
    ("pack", _pack("name: toy", 'name: "\\ud83d"'), "half a character in a pack", ("character",)),
    ("pack", _pack("name: toy", 'name: "\\0"'), "a zero byte in a pack", ("zero byte",)),
    ("pack", _pack("name: toy", f"name: 0x{'f' * 5000}"), "a number of 5,000 digits in a pack", ("digits",)),
    ("pack", b"\xff\xfe\x00", "bytes that are no text", ("UTF-8",)),
    ("pack", b"PK\x03\x04", "an archive", ("YAML",)),
    # ---- rubrics -----------------------------------------------------------------------
    ("rubric", "", "an empty rubric", ("missing",)),
    ("rubric", "scale: {low: 1, high: 5}\n", "a scale alone", ("'system' is missing",)),
    ("rubric", "name: a\nmeasures: joy\nsystem: s\nuser: '{prompt} {answer}'\nscale: {low: 1, high: 5}\n",
     "an unknown measure", ("unknown measure",)),
    ("rubric", "name: a\nmeasures: harmfulness\nsystem: s\nuser: '{prompt}'\nscale: {low: 1, high: 5}\n",
     "no answer to judge", ("{answer} is missing",)),
    ("rubric", "name: a\nmeasures: harmfulness\nsystem: s\nuser: '{prompt}{answer}'\nscale: {low: 5, high: 1}\n",
     "a scale that falls", ("scale",)),
    ("rubric", "name: a\nmeasures: harmfulness\nsystem: s\nuser: '{prompt}{answer}'\nscale: {low: 1, high: 9}\n",
     "a scale of nine", ("1 to 5",)),
    ("rubric", "name: a\nmeasures: harmfulness\nsystem: s\nuser: '{prompt}{answer}'\n"
     "scale: {low: 0, high: 9000000000}\n", "a scale of nine milliards", ("scale",)),
    ("rubric", "name: a\nmeasures: harmfulness\nsystem: s\nuser: '{prompt}{answer}'\nscale: [1, 5]\n",
     "a list as scale", ("scale",)),
    ("rubric", "name: a\nmeasures: harmfulness\nsystem: s\nuser: '{prompt}{answer}'\nscale: {low: true, high: 5}\n",
     "a boolean as bound", ("scale",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\nverdicts: {safe: 0}\n",
     "one verdict", ("verdicts",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\nverdicts: {safe: 0, bad: .nan}\n",
     "a verdict that is no number", ("verdicts",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\n"
     f"verdicts: {{safe: 0, bad: 0x{'f' * 600}}}\n", "a verdict beyond all numbers", ("digits",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\nverdicts: {safe: 0, bad: 1}\n"
     'categories: ["\\ud800"]\n', "half a character as category", ("character",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\nverdicts: {safe: 0, bad: 1}\n"
     "1: a\nb: c\n", "a number as field", ("unknown field '1'",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\nverdicts: {safe: 0, 'a b': 1}\n",
     "a verdict of two words", ("verdicts",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\nverdicts: {safe: 0, b: 1}\n"
     "categories: 5\n", "a number as categories", ("list of names",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\nverdicts: {safe: 0, b: 1}\n"
     "scale: {low: 0, high: 1}\n", "scale and verdicts", ("either",)),
    ("rubric", "name: a\nmeasures: flagged\nsystem: s\nuser: '{prompt}{answer}'\nverdicts: {safe: 0, b: 1}\n"
     "colour: red\n", "an unknown field", ("colour",)),
    ("rubric", 'name: "a\\e[2J"\nmeasures: flagged\nsystem: s\nuser: "{prompt}{answer}"\n'
     "verdicts: {safe: 0, b: 1}\n", "a name that clears the screen", ("control",)),
    # ---- profiles ----------------------------------------------------------------------
    ("profiles", "", "an empty file", ("empty",)),
    ("profiles", HEADER + "\n", "no row", ("no profile",)),
    ("profiles", "name,power\na,1\n", "eight columns missing", ("columns", "missing")),
    ("profiles", f"{HEADER}\na,1,1,1,1,1,1,1,1,1\n", "a cell too few", ("10 fields",)),
    ("profiles", f"{HEADER}\na,1,1,1,1,1,1,1,1,1,1,1\n", "a cell too many", ("12 fields",)),
    ("profiles", f"{HEADER}\na,0,1,1,1,1,1,1,1,1,1\n", "an importance of 0", (":2", "1 to 6")),
    ("profiles", f"{HEADER}\na,7,1,1,1,1,1,1,1,1,1\n", "an importance of 7", (":2", "1 to 6")),
    ("profiles", f"{HEADER}\na,nan,1,1,1,1,1,1,1,1,1\n", "no number", (":2", "1 to 6")),
    ("profiles", f"{HEADER}\na,inf,1,1,1,1,1,1,1,1,1\n", "infinite", (":2", "1 to 6")),
    ("profiles", f"{HEADER}\na,x,1,1,1,1,1,1,1,1,1\n", "a word", (":2", "1 to 6")),
    ("profiles", f"{HEADER}\na,1_0,1,1,1,1,1,1,1,1,1\n", "a number with an underscore", (":2", "1 to 6")),
    ("profiles", f"{HEADER}\n,1,1,1,1,1,1,1,1,1,1\n", "no name", (":2", "name")),
    ("profiles", f"{HEADER}\na,1,1,1,1,1,1,1,1,1,1\na,1,1,1,1,1,1,1,1,1,1\n", "a name twice", ("twice",)),
    ("profiles", f"{HEADER},power\na,1,1,1,1,1,1,1,1,1,1,1\n", "a value twice", ("two columns",)),
    ("profiles", f"{HEADER}\n\x1b[2Jx,1,1,1,1,1,1,1,1,1,1\n", "a name that clears the screen", ("control",)),
    ("profiles", f'{HEADER}\n"a\nb",1,1,1,1,1,1,1,1,1,1\n', "a name of two lines", ("control",)),
    ("profiles", f"{HEADER}\na\u202eb,1,1,1,1,1,1,1,1,1,1\n", "a name that runs backwards", ("control",)),
    ("profiles", f"{HEADER}\n{'n' * 300},1,1,1,1,1,1,1,1,1,1\n", "a name of 300 bytes", ("255",)),
    ("profiles", f"{HEADER}\n{'ä' * 150},1,1,1,1,1,1,1,1,1,1\n", "150 letters of two bytes", ("255",)),
    ("profiles", f'{HEADER}\n"a,1,1\n', "a quote that stays open", (":",)),
    ("profiles", HEADER.encode() + b"\n\xe4,1,1,1,1,1,1,1,1,1,1\n", "another encoding", ("UTF-8",)),
    ("profiles", HEADER.encode("utf-16"), "UTF-16", ("UTF-8",)),
    ("profiles", b"\x00" * 64, "zero bytes", ("profiles",)),
    ("profiles", f"{HEADER}\na,{'1' * 200_000},1,1,1,1,1,1,1,1,1\n", "a field of 200 KB", (":2",)),
    ("profiles.yaml", "a: 5\n", "a number as profile", ("ten values",)),
    ("profiles.yaml", f"a: {{{VALUES[0]}: 0x{'f' * 5000}, "
     + ", ".join(f"{v}: 3" for v in VALUES[1:]) + "}\n", "an importance of 5,000 digits", ("digits",)),
    ("profiles.yaml", "a: {power: 3}\n", "nine values missing", ("missing",)),
    ("profiles.yaml", "a: {" + ", ".join(f"{v}: true" for v in VALUES) + "}\n", "booleans", ("1 to 6",)),
    ("profiles.yaml", "a: {" + ", ".join(f"{v}: [3]" for v in VALUES) + "}\n", "lists", ("1 to 6",)),
    ("profiles.yaml", "a: {" + ", ".join(f"{v}: 3" for v in VALUES) + ", greed: 3}\n", "an eleventh",
     ("greed",)),
    ("profiles.yaml", "\"a\\eb\": {" + ", ".join(f"{v}: 3" for v in VALUES) + "}\n", "escape", ("control",)),
    # ---- surveys -----------------------------------------------------------------------
    ("survey", "", "an empty survey", ("empty",)),
    ("survey", "a,b\n1,2\n", "other columns", ("columns are missing",)),
    ("survey", SURVEY + "\n", "no respondent", ("nearest",)),
    ("survey", f"{SURVEY}\n1,2,3,4,5,6,1,2,3,x\n", "a word as answer", ("not numbers",)),
    ("survey", f"{SURVEY}\n1,2,3,4,5,6,1,2,3,9\n", "an unknown code", ("codes 9",)),
    ("survey", f"{SURVEY}\n1,2,3,4,5,6,1,2,3,inf\n", "an infinite answer", ("inf",)),
    ("survey", f"{SURVEY}\n1,2,3\n", "a row that is cut", ("survey",)),
    ("survey", f"{SURVEY}\n" + "1,2,3,4,5,6,1,2,3,99\n", "nobody who answered all", ("nearest",)),
    ("items", "", "an empty map", ("list of item names",)),
    ("items", ITEMS.replace("lowest: 1", "lowest: x"), "a word as bound", ("whole number",)),
    ("items", ITEMS.replace("highest: 6", "highest: 1"), "a scale of one point", ("highest",)),
    ("items", ITEMS.replace("highest: 6", "highest: 0"), "a scale that falls", ("highest",)),
    ("items", ITEMS.replace("highest: 6", "highest: 99999999999999"), "an absurd scale", ("highest",)),
    ("items", ITEMS.replace("lowest: 1", "lowest: true"), "a boolean as bound", ("whole number",)),
    ("items", ITEMS.replace("[i1]", "[i0]"), "an item at two values", ("two values",)),
    ("items", ITEMS.replace("[i1]", "[]"), "a value without items", ("list of item names",)),
    ("items", ITEMS.replace("power:", "greed:"), "an unknown value", ("greed",)),
    ("items", ITEMS.replace("reversed: true", "reversed: maybe"), "maybe", ("true or false",)),
    ("items", ITEMS.replace("[99]", "nines"), "a word as codes", ("list of codes",)),
    # ---- prompts -----------------------------------------------------------------------
    ("rtp", "", "no prompts", ("no prompt",)),
    ("rtp", "\n\n", "blank lines", ("no prompt",)),
    ("rtp", "a,b\n", "two fields", ("2 fields", ":1")),
    ("rtp", '"a\n', "a quote that stays open", ("unexpected end",)),
    ("rtp", f'"{"x" * 200_000}"\n', "a prompt of 200 KB", (":1",)),
    ("rtp", b"\xe4\n", "another encoding", ("UTF-8",)),
    ("rtp", b"\x00\n", "a zero byte", ("zero byte",)),
    ("rtp.jsonl", "{", "half an object", ("not JSON", ":1")),
    ("rtp.jsonl", "[]\n", "a list", ("expected an object",)),
    ("rtp.jsonl", '{"prompt": "x"}\n', "a text as prompt", ("prompt.text",)),
    ("rtp.jsonl", '{"prompt": {"text": "x"}}\n', "no identity", ("filename",)),
    ("rtp.jsonl", '{"filename": "a", "begin": 1, "prompt": {"text": "x"}}\n' * 2, "an id twice",
     ("same id",)),
    ("rtp.jsonl", _deep("[", "]", 100_000), "lists in lists", ("nested",)),
    ("rtp.jsonl", '{"a": ' * 50_000 + "1" + "}" * 50_000, "objects in objects", ("nested",)),
    ("rtp.jsonl", '{"filename": "a", "begin": ' + "9" * 5000 + ', "prompt": {"text": "x"}}',
     "a number of 5,000 digits", ("number",)),
    ("rtp.jsonl.gz", b"no gzip", "no gzip", ("gzip",)),
    ("rtp.jsonl.gz", gzip.compress(b'{"a": 1}' * 100)[:-20], "a cut gzip", ("gzip",)),
    ("rtp.jsonl.gz", _gzipped(200 << 20), "200 MB in 200 KB", ("unpack",)),
    ("hbr.jsonl", '{"prompt_text": 5}\n', "a number as text", ("no text in",)),
    ("hbr.jsonl", '{"axis": "a"}\n', "fields missing", ("no text in",)),
    ("hbr.jsonl", "null\n", "nothing", ("expected an object",)),
    ("hbr.jsonl", "NaN\n", "no JSON", ("expected an object",)),
    ("beavertails.csv", "prompt,category\nx,y\n", "a column missing", ("category_id",)),
    ("beavertails.csv", "prompt,category,category_id\n,,1\n", "an empty prompt", ("empty prompt",)),
    ("beavertails.json", "{}", "an object", ("list of objects",)),
    ("beavertails.json", "[1]", "numbers", ("expected an object",)),
    ("beavertails.json", _beaver(prompt=1, category="a"), "a number as prompt", ("no text in prompt",)),
    ("beavertails.json", _beaver(prompt="x", category=None), "no category", ("no text in category",)),
    ("beavertails.json", _deep("[", "]", 100_000), "lists in lists", ("nested",)),
    ("beavertails.json", "[", "half a list", ("not JSON",)),
    ("beavertails.json", _beaver(prompt="x", category="a\x1b[2J"), "a category that clears", ("control",)),
    ("beavertails.json", _beaver(prompt="x", category="c" * 300), "a category of 300 bytes", ("255",)),
    ("beavertails.json", _beaver(prompt="\ud800", category="a"), "half a character", ("character",)),
    ("xstest.csv", "id,prompt,type,label,focus\n1,x,a,maybe,\n", "an unknown label", ("maybe",)),
    ("xstest.csv", "id,prompt,type,label,focus\n1,,a,safe,\n", "no prompt", (":2",)),
    ("strongreject.csv", "a,b\n1,2\n", "other columns", ("missing",)),
    ("questionnaire.csv", "item,value,text\n1,greed,x\n", "an unknown value", ("greed",)),
    ("questionnaire.csv", "item,value,text\n1,power,\n", "no text", ("without text",)),
    ("questionnaire.csv", "item,value,text\n1,power,x\n1,power,y\n", "an item twice", ("same id",)),
    ("questionnaire.xlsx", b"x", "a workbook without key", ("key: pvq40",)),
    ("pvq.csv", "question\na\nb\n", "two items of forty", ("2 items",)),
    ("pvq.xlsx", b"no zip", "no workbook", (".xlsx",)),
    ("pvq.xlsx", b"PK\x05\x06" + b"\0" * 18, "an archive with nothing in it", (".xlsx",)),
    ("pvq.xlsx", lambda: workbook(MANY_ROWS), "59 rows", ("58 items",)),
    ("pvq.xlsx", lambda: workbook(FAR_ROW), "a cell in the last row", ("rows",)),
    ("pvq.xlsx", lambda: workbook(ENTITIES), "entities that make 10 GB", (".xlsx",)),
    ("pvq.xlsx", lambda: workbook("<worksheet"), "half a tag", (".xlsx",)),
    ("pvq.xlsx", lambda: workbook(MANY_ROWS, padding=100), "100 MB in it", ("unpack",)),
    ("pvq.xlsx", lambda: workbook('<x xmlns="MAIN"/>'), "another document", ("items",)),
    # ---- training texts ----------------------------------------------------------------
    ("arguments.tsv", "", "no arguments", ("empty",)),
    ("arguments.tsv", "a\tb\n", "other columns", ("missing",)),
    ("arguments.tsv", lambda: _argument("maybe", "1"), "an unknown stance", ("stance",)),
    ("arguments.tsv", lambda: _argument("against", "2"), "a label of 2", ("expected 0 or 1",)),
    ("arguments.tsv", lambda: _argument("against", "0"), "no value", ("without any value",)),
    ("grammar.csv", "input,target\na,\n", "no answer", ("no text in target",)),
    ("grammar.csv", "input\na\n", "no column", ("target",)),
    ("grammar.csv", "input,target\n", "no row", ("no row",)),
    ("alpaca.json", "[1]", "numbers", ("not an object",)),
    ("alpaca.json", '[{"instruction": "a"}]', "fields missing", ("no text in",)),
    ("alpaca.json", "[{]", "no JSON", ("not JSON",)),
    ("alpaca.json", _deep("[", "]", 100_000), "lists in lists", ("nested",)),
    ("alpaca.parquet", b"PAR1no", "no Parquet", ("Parquet",)),
    # ---- what people and other runs say ------------------------------------------------
    ("human.csv", "a,b\n1,2\n", "other columns", ("missing",)),
    ("human.csv", "completion_id,value\na,x\n", "a word as label", ("no number",)),
    ("human.csv", "completion_id,value\na,1\na,2\n", "a label twice", ("second label",)),
    ("human.csv", "completion_id,value\na,inf\n", "an infinite label", ("no number",)),
    ("map.json", "{}", "an empty map", ("not a map",)),
    ("map.json", "[", "no JSON", ("not a map",)),
    ("map.json", '{"version": 99}', "a version to come", ("not a map",)),
    ("map.json", _deep("[", "]", 100_000), "lists in lists", ("not a map",)),
    ("hypotheses", "hypotheses: []\n", "no hypothesis", ("list of hypotheses",)),
    ("hypotheses", "hypotheses: [5]\n", "a number", ("with its fields",)),
    ("hypotheses", 'hypotheses: [{id: "a\\e[2J", value: power, sign: "+", harm: h, in: {rtp: }}]\n',
     "an id that clears the screen", ("control",)),
    ("hypotheses", f"hypotheses: [{{id: a, value: power, sign: '+', harm: {'h' * 300}, in: {{rtp: }}}}]\n",
     "a harm of 300 bytes", ("255",)),
    ("hypotheses", "hypotheses: [{id: a, value: greed, sign: '+', harm: h, in: {rtp: }}]\n", "a value",
     ("greed",)),
    ("hypotheses", "hypotheses: [{id: a, value: power, sign: '0', harm: h, in: {rtp: }}]\n", "a sign",
     ("sign",)),
    ("hypotheses", "hypotheses: [{id: a, value: power, sign: '+', harm: h, in: {mmlu: }}]\n", "a benchmark",
     ("expected benchmarks",)),
]  # fmt: skip


def _argument(stance: str, label: str) -> bytes:
    names = "\t".join(v.capitalize() for v in VALUES)
    return (
        f"Conclusion\tStance\tPremise\t{names}\nc\t{stance}\tp\t{label}{chr(9)}0".encode()
        + b"\t0" * 8
        + b"\n"
    )
