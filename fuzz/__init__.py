"""Random input for everything that reads what a peer sent; see README.md in this folder."""
