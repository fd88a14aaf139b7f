"""What the neural recommenders share: layers, losses, training, encoders."""
