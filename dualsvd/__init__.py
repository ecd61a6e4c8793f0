"""dualsvd"""
