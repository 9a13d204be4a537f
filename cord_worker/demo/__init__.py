"""The bundled demonstration: tiny models, the word problems they were trained on, and the scripts that made both."""
