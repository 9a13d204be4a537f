"""How text becomes prompts and how a model's text becomes steps. Text is canonical; ids are each model's own."""
