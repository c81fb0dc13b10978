/* GnuTLS as a DTLS 1.2 peer: its own tools print no keys as a server over UDP. */
#include <gnutls/dtls.h>
#include <gnutls/gnutls.h>

#include "peer.h"

static void check(const char *what, int result) {
    if (result < 0) fail(what, result);
}

int main(int count, char **values) {
    struct arguments given = read_arguments(count, values);
    unsigned role = given.is_server ? GNUTLS_SERVER : GNUTLS_CLIENT;
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    gnutls_srtp_profile_t profile;
    unsigned char keys[EXPORT_LENGTH];
    char line[MAX_LINE];
    ssize_t result;

    check("credentials", gnutls_certificate_allocate_credentials(&credentials));
    check("certificate", gnutls_certificate_set_x509_key_file(credentials, given.certificate, given.key,
                                                              GNUTLS_X509_FMT_PEM));
    check("session", gnutls_init(&session, role | GNUTLS_DATAGRAM));
    check("priority", gnutls_set_default_priority(session));
    check("credentials", gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials));
    check("profile", gnutls_srtp_set_profile(session, (gnutls_srtp_profile_t)given.profile));
    /* Asked for and not verified: the fingerprint is what the other side compares. */
    if (given.is_server) gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_dtls_set_mtu(session, (unsigned)given.mtu);
    gnutls_dtls_set_timeouts(session, 100, 30000);
    gnutls_transport_set_int(session, given.socket);
    do {
        result = gnutls_handshake(session);
    } while (result < 0 && gnutls_error_is_fatal((int)result) == 0);
    check("handshake", (int)result);
    check("no profile", gnutls_srtp_get_selected_profile(session, &profile));
    check("export", gnutls_prf_rfc5705(session, strlen(EXPORT_LABEL), EXPORT_LABEL, 0, NULL, sizeof keys, (char *)keys));
    print_keys(keys);
    for (;;) {
        int ready = wait_for(given.socket, 1, 200);
        if (ready & 1) {
            result = gnutls_record_recv(session, line, sizeof line);
            if (result == 0 || (result < 0 && gnutls_error_is_fatal((int)result))) return 0;
            if (result > 0) fwrite(line, 1, (size_t)result, stdout);
            fflush(stdout);
        }
        if (ready & 2) {
            ssize_t size = read(0, line, sizeof line);
            if (size <= 0) {
                gnutls_bye(session, GNUTLS_SHUT_WR);
                return 0;
            }
            gnutls_record_send(session, line, (size_t)size);
        }
    }
}
