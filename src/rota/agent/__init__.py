"""The imperative shell of one agent: reads the journal, folds, decides, acts."""
