"""Training of decoders: pretraining, continued pretraining, fine-tuning, distillation, merging."""
