"""Language scorer: languages of a document by n-grams, built in or learnt from examples."""
