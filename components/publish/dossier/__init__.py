"""The dossier of a model version: one offline HTML file that tells all there is to know of it."""
