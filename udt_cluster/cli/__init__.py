"""The command line: parse, call, print. The only place that exits, and the only one that knows Typer."""
