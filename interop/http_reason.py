"""Why a request over HTTP came to nothing, in words that lead to the fault."""

from __future__ import annotations

import ssl

import aiohttp

ABOUT_A_STATUS = {
    400: "the server does not understand the offer",
    404: "there is nothing at this path",
    405: "this path takes no POST",
    406: "the server cannot take what is offered",
    415: "the server takes another Content-Type at this path",
    422: "the server cannot take what is offered",
    429: "the server takes no more calls now",
}
"""What a status says of an offer (RFC 9110 §15.5)."""


def reason(error: BaseException) -> str:
    """Why a request failed, in one line; there always are some words."""
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, aiohttp.InvalidURL):
        return "it is no address of a server"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _about_the_certificate(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorSSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return f"there is no TLS at {error.host} port {error.port}: http:// may be meant"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection to {error.host} port {error.port}: {error.os_error.strerror or error.os_error}"
    if isinstance(error, aiohttp.TooManyRedirects):
        return f"it redirects without end, {len(error.history)} times so far"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it closes the connection without a response: https:// may be meant"
    if isinstance(error, aiohttp.ClientResponseError) and not error.history:
        return f"what answers there speaks no HTTP: {_one_line(error.message)}"
    return _one_line(str(error)) or type(error).__name__


def _about_the_certificate(error: BaseException) -> str:
    why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else _one_line(str(error))
    return (
        f"its certificate is not trusted: {why} (SSL_CERT_FILE=ITS-CERTIFICATE.pem in the environment trusts it)"
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
