"""The dataset on disk: the folder the trainer reads, the checks at its door, the ledger of what is true."""
