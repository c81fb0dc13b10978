"""The sending half of an association: queue and scheduler, congestion control, loss detection, retransmission."""
