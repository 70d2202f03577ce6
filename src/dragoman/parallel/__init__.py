"""One model in several processes: its parts, what they send each other, and who tells whom what to do."""
