"""The beat classification service, as it stands in the bento."""
