// Package codec turns values into message payloads and back.
//
//	codec.JSON         encoding/json; unknown fields are ignored (the default)
//	codec.StrictJSON   unknown fields and null are refused
//	codec.Proto        protobuf, binary; values are pointers to messages
//	codec.Raw          []byte and string as they are
//	codec.CloudEvents  CloudEvents 1.0, structured or binary, around one of the above
//
// A handler runs again after a failure, and its outputs then carry the same
// event IDs as before. A consumer that sees an ID again with another payload
// takes it for a conflict, so equal values must always become equal bytes. That
// is why Proto marshals deterministically and CloudEvents writes no time.
package codec
