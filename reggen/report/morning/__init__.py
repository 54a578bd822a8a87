"""The morning report: one page about a dataset that opens from the disk and from a mail."""
