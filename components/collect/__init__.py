"""Collection stages: scrape pages (web, embedded site, files) and extract documents from them."""
