"""What the server of `support.commands` does once, before it forks: the slow first steps of every command.

It bundles the charts' runtime, compiles the page of a report, reads the word list of a scorer, lets transformers
build its table of checkpoints and typer its tree of verbs.
"""

import gc

import profanity_check  # noqa: F401
import typer.main
from transformers.conversion_mapping import get_checkpoint_conversion_mapping
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from support.once import build_commands_once, skip_syncs
from unharm.cli.app import app
from unharm.report.page import page_environment
from unharm.report.runtime import vega_runtime

skip_syncs()
build_commands_once()
typer.main.get_command(app)
vega_runtime()
page_environment().get_template("page.html.j2")
SentimentIntensityAnalyzer()
get_checkpoint_conversion_mapping("llama")
gc.collect()
gc.freeze()  # so that the collector of a forked process touches nothing of this, and no page is copied
