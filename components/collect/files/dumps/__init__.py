"""Files that hold many pages and are no tables: archives, wikis' and forums' dumps, mailboxes."""
