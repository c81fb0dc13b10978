"""What the shim for BoringSSL's conformance runner is made of; `interop/README.md` says how it is used."""
