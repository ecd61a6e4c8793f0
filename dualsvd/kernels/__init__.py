"""The hand-written Jacobi SVD: plain Python over a scalar protocol, and what compiles it.

    protocol      the operations a kernel text may use
    jacobi, qr, derivatives      the texts: rotations and sweeps, pivoted QR, closed forms
    staging       numbers that record LLVM instructions
    scalars       Dual, SIMD packs and buffers as Numba types
    arrays        DualArray in users' compiled functions
    caching       compiled code on disk that notices edited rules
    compiled, cpu, cuda          the texts compiled, and launched

The protocol and the texts import no Numba.
"""
