"""Pure building blocks: identifiers, time, canonical JSON, hashing, Merkle trees, errors. Standard library only."""
