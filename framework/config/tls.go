package config

// TLS encrypts connections to a broker. Its files are relative to the folder of
// hapax.yaml.
type TLS struct {
	// Enabled turns TLS on. Default false.
	Enabled bool `yaml:"enabled"`
	// CAFile is a PEM file of the authorities to trust. "": the system's.
	// Default "".
	CAFile string `yaml:"ca_file" example:"ca.pem"`
	// CertFile is a PEM file with the client's certificate; it needs key_file.
	// "": none is sent. Default "".
	CertFile string `yaml:"cert_file" example:"client.pem"`
	// KeyFile is a PEM file with the client's key; it needs cert_file.
	// Default "".
	KeyFile string `yaml:"key_file" example:"client.key"`
	// ServerName is the name expected in the server's certificate. "": the host
	// that was dialled. Default "".
	ServerName string `yaml:"server_name" example:"kafka.internal"`
	// InsecureSkipVerify accepts any certificate, and so anyone in between.
	// Default false.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}
