// Pion's DTLS 1.2 as a peer: shakes hands, prints the exported SRTP keys, then passes lines between its
// standard streams and the connection.
//
//	pion_dtls client|server ADDRESS CERTIFICATE.pem KEY.pem SRTP-PROFILE-NUMBER MTU
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/pion/dtls/v3"
)

const (
	exportLabel  = "EXTRACTOR-dtls_srtp"
	exportLength = 60
	patience     = 30 * time.Second
)

func fatal(err error) {
	if err != nil {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	fatal(err)

	return value
}

func main() {
	if len(os.Args) != 7 {
		fatal(fmt.Errorf("usage: pion_dtls client|server ADDRESS CERTIFICATE KEY PROFILE MTU"))
	}
	certificate, err := tls.LoadX509KeyPair(os.Args[3], os.Args[4])
	fatal(err)
	address, err := net.ResolveUDPAddr("udp4", os.Args[2])
	fatal(err)
	config := &dtls.Config{
		Certificates:           []tls.Certificate{certificate},
		SRTPProtectionProfiles: []dtls.SRTPProtectionProfile{dtls.SRTPProtectionProfile(number(os.Args[5]))},
		MTU:                    number(os.Args[6]),
		InsecureSkipVerify:     true, // the fingerprints are what the other side compares
		ClientAuth:             dtls.RequireAnyClientCert,
		ExtendedMasterSecret:   dtls.RequireExtendedMasterSecret,
		FlightInterval:         100 * time.Millisecond,
	}
	var connection *dtls.Conn
	if os.Args[1] == "client" {
		connection, err = dtls.Dial("udp4", address, config)
		fatal(err)
	} else {
		listener, err := dtls.Listen("udp4", address, config)
		fatal(err)
		fmt.Println("ready")
		accepted, err := listener.Accept()
		fatal(err)
		connection = accepted.(*dtls.Conn)
	}
	context, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	fatal(connection.HandshakeContext(context))
	state, ok := connection.ConnectionState()
	if !ok {
		fatal(fmt.Errorf("no state"))
	}
	keys, err := state.ExportKeyingMaterial(exportLabel, nil, exportLength)
	fatal(err)
	fmt.Printf("key material: %X\n", keys)

	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			_, err := connection.Write(append(lines.Bytes(), '\n'))
			fatal(err)
		}
	}()
	buffer := make([]byte, 1<<14)
	for {
		size, err := connection.Read(buffer)
		fatal(err)
		_, err = os.Stdout.Write(buffer[:size])
		fatal(err)
	}
}
