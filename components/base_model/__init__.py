"""Step `base_model`: fetch the model to be trained as one safetensors folder."""
