package launch

import (
	"strings"
)

const (
	kafkaSecure = "HAPAX_PORT_KAFKA_SECURE"
	// kafkaListener is the name of the listener that takes TLS and SASL only.
	kafkaListener = "SECURE"
)

// kafkaSecured makes a certificate and returns the settings of a second listener
// that takes TLS and every SASL mechanism we support. User hapax has password
// hapax by PLAIN; for SCRAM whoever tests it makes a user over the plain listener.
// Tokens for OAUTHBEARER are unsecured JWTs, as Kafka takes them in development.
func kafkaSecured(s *site) ([]string, error) {
	keys, err := s.certificate()
	if err != nil {
		return nil, err
	}
	modules := map[string]string{
		"plain":         "plain.PlainLoginModule required user_hapax=\"hapax\";",
		"scram-sha-256": "scram.ScramLoginModule required;",
		"scram-sha-512": "scram.ScramLoginModule required;",
		"oauthbearer":   "oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"hapax\";",
	}
	settings := []string{
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT," + kafkaListener + ":SASL_SSL",
		"ssl.keystore.type=PEM",
		"ssl.keystore.location=" + keys,
	}
	var mechanisms []string
	for _, name := range []string{"plain", "scram-sha-256", "scram-sha-512", "oauthbearer"} {
		mechanisms = append(mechanisms, strings.ToUpper(name))
		settings = append(settings, "listener.name."+strings.ToLower(kafkaListener)+"."+name+
			".sasl.jaas.config=org.apache.kafka.common.security."+modules[name])
	}
	return append(settings, "listener.name."+strings.ToLower(kafkaListener)+".sasl.enabled.mechanisms="+strings.Join(mechanisms, ",")), nil
}
