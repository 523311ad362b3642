"""Files of rows: JSON, delimited text, Parquet and Arrow; and pages of their rows."""
