"""sctp"""
