// Tests of Feed.
