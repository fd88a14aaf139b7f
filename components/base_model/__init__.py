"""Step `base_model`: bring the model to be trained, from wherever it lies, as one safetensors folder."""
