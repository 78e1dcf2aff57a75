"""Where a caller's media may come from: a path, a stranger's URL, a data: URI, an asset that is already there."""
