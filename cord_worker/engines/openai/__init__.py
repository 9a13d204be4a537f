"""A model behind any server that speaks OpenAI's HTTP API: nothing is hosted here."""
