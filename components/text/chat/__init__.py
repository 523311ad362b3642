"""Chat template, questions and answers of models, identity of tokenizers."""
