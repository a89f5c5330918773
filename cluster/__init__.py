"""Where the stages run: pools of nodes, and the stand-in stage that needs no GPU."""
