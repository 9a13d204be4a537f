"""The bundled demonstration: tiny models, the word problems that trained them, and the scripts that made both."""
