"""The training set as the trainer reads it: configs, folders, captions, images."""
