"""What a hostile or careless user, file, server or model may bring."""
