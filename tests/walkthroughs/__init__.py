"""What a document tells the reader to change is done to a copy, which is then built and tried."""
