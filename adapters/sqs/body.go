package sqs

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"unicode/utf8"
)

// How a body stands for a payload, in the attribute hapax_encoding. Without it
// the body is the payload, as the official adapter sends it.
const (
	// encodingEmpty: the payload is empty, which no body may be.
	encodingEmpty = "empty"
	// encodingBase64: the payload is not text that SQS takes.
	encodingBase64 = "base64"
	// encodingGzip: base64 of the payload compressed.
	encodingGzip = "gzip"

	// compressFrom is the size from which compressing is worth a try.
	compressFrom = 512
	// maxInflated bounds what a body may become, so that a small message
	// cannot fill the memory.
	maxInflated = 64 << 20
)

func encodeBody(payload []byte, compress bool) (body, encoding string, err error) {
	if compress && len(payload) >= compressFrom && len(payload) <= maxInflated {
		var buffer bytes.Buffer
		writer := gzip.NewWriter(&buffer)
		if _, err := writer.Write(payload); err != nil {
			return "", "", err
		}
		if err := writer.Close(); err != nil {
			return "", "", err
		}
		if base64.StdEncoding.EncodedLen(buffer.Len()) < len(payload) {
			return base64.StdEncoding.EncodeToString(buffer.Bytes()), encodingGzip, nil
		}
	}
	text := string(payload)
	switch {
	case text == "":
		return "-", encodingEmpty, nil
	case legalText(text):
		return text, "", nil
	}
	return base64.StdEncoding.EncodeToString(payload), encodingBase64, nil
}

// legalText reports whether SQS takes a text: the characters that XML 1.0 has.
func legalText(text string) bool {
	for i, r := range text {
		switch {
		case r == utf8.RuneError:
			if _, size := utf8.DecodeRuneInString(text[i:]); size == 1 {
				return false
			}
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0xFFFE, r == 0xFFFF:
			return false
		}
	}
	return true
}

// decodeBody returns the payload; with an error, the body as it is.
func decodeBody(body, encoding string) ([]byte, error) {
	switch encoding {
	case "":
		return []byte(body), nil
	case encodingEmpty:
		return nil, nil
	case encodingBase64, encodingGzip:
	default:
		return nil, fmt.Errorf("encoding is %q, expected %s, %s or %s", encoding, encodingEmpty, encodingBase64, encodingGzip)
	}
	payload, err := base64.StdEncoding.DecodeString(body)
	if err != nil || encoding == encodingBase64 {
		return payload, err
	}
	reader, err := gzip.NewReader(bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	payload, err = io.ReadAll(io.LimitReader(reader, maxInflated+1))
	if err == nil && len(payload) > maxInflated {
		err = fmt.Errorf("the payload is larger than %d bytes when inflated", maxInflated)
	}
	return payload, err
}
