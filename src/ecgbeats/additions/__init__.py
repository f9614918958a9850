"""New annotated data: checked, told apart from what is there, joined to a dataset, split."""
