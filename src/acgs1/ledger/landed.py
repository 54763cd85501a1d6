"""What the embedded node adds to Solana's protocol: one header of the answer to sendTransaction.

The node answers a sent transaction when it is on the disk, so its answer already says what a client of a cluster has to ask
for: that the transaction landed for good, that it succeeded, and in which slot. A cluster sends no such header.
"""

from typing import Final

# The slot in decimal; only there where the transaction succeeded.
LANDED_SLOT: Final = "acgs-landed-slot"
