"""The dataset on disk: the folder that the trainer reads, its ledger, and what is checked, adopted and rejected."""
