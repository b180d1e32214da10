"""How weights are made: recipe, augmentation, the trainer and resumable runs."""
