"""Recordings -> clean manifest -> token shards: the road that every training set takes."""
