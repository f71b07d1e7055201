// The room for Feed.
