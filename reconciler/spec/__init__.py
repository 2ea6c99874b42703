"""The YAML language of environment specs: strict models, parsing with places, JSON Schemas; no I/O."""
