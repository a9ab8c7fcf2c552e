"""Codes over a lossy link: packets, loss, repair, concealment, RTP over UDP."""
