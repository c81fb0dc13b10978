"""srtp"""
