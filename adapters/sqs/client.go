package sqs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/hapax-go/hapax/dedup"
)

// newClient connects the SDK. disconnect closes the idle connections.
func newClient(ctx context.Context, config Config) (client *sqs.Client, disconnect func(), err error) {
	options := []func(*awsconfig.LoadOptions) error{awsconfig.WithLogger(sdkLogger(config.Logger))}
	if config.Region != "" {
		options = append(options, awsconfig.WithRegion(config.Region))
	}
	if config.Credentials != nil {
		options = append(options, awsconfig.WithCredentialsProvider(config.Credentials))
	}
	loaded, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, nil, fmt.Errorf("read AWS configuration: %w", err)
	}
	if loaded.Region == "" {
		if config.Endpoint == "" {
			return nil, nil, errors.New("no AWS region: set region, or AWS_REGION in the environment")
		}
		loaded.Region = "us-east-1" // an emulator does not mind
	}
	disconnect = func() {}
	if config.HTTPClient == nil {
		// The SDK's own transport, with what the environment says of certificates,
		// but one whose connections can be closed.
		buildable, ok := loaded.HTTPClient.(*awshttp.BuildableClient)
		if !ok {
			buildable = awshttp.NewBuildableClient()
		}
		transport := buildable.GetTransport()
		// The default of 10 would reconnect for many requests.
		transport.MaxIdleConnsPerHost = 256
		config.HTTPClient = &http.Client{Transport: transport}
		disconnect = transport.CloseIdleConnections
	}
	return sqs.NewFromConfig(loaded, func(o *sqs.Options) {
		o.HTTPClient = config.HTTPClient
		if config.Endpoint != "" {
			o.BaseEndpoint = aws.String(config.Endpoint)
		}
	}), disconnect, nil
}

// sdkLogger takes what the SDK says, its search for credentials included.
func sdkLogger(logger *slog.Logger) logging.Logger {
	return logging.LoggerFunc(func(_ logging.Classification, format string, args ...any) {
		logger.Debug("aws sdk: " + fmt.Sprintf(format, args...))
	})
}

// Ping implements adapters.Broker. A refusal to list queues is an answer too:
// services are often not permitted to.
func (b *Broker) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	_, err := b.client.ListQueues(ctx, &sqs.ListQueuesInput{MaxResults: aws.Int32(1)})
	if code := errorCode(err); err == nil || slices.Contains(refusals, code) {
		return nil
	}
	return fmt.Errorf("reach sqs at %s: %w: %s", b.address(), err, b.advice(err))
}

// address is where the service is, for errors.
func (b *Broker) address() string {
	if b.config.Endpoint != "" {
		return b.config.Endpoint
	}
	return "region " + b.client.Options().Region
}

var (
	refusals   = []string{"AccessDenied", "AccessDeniedException"}
	throttling = []string{
		"RequestThrottled", "ThrottlingException", "Throttling", "ThrottledException", "RequestThrottledException",
		"TooManyRequestsException", "KmsThrottled", "KMS.ThrottlingException", "OverLimit", "RequestLimitExceeded", "SlowDown",
	}
	strangers = []string{
		"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidAccessKeyId",
		"ExpiredToken", "ExpiredTokenException", "InvalidSignatureException", "IncompleteSignature", "MissingAuthenticationToken",
	}
)

func errorCode(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// keys is what an emulator wants too, which the SDK does not say.
const keys = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment; an emulator takes any value"

func (b *Broker) advice(err error) string {
	if slices.Contains(strangers, errorCode(err)) {
		return "the service does not know these credentials: check the environment, the shared files or the role they come from"
	}
	if errorCode(err) != "" {
		return "check region, endpoint and permissions"
	}
	if b.config.Endpoint != "" {
		return "check endpoint and network, and that there are AWS credentials: " + keys
	}
	return "check region and network, and that AWS credentials are configured: " + keys
}

// passing reports whether trying again may help: throttling, faults of the
// service, no answer.
func passing(err error) bool {
	if err == nil {
		return false
	}
	api, answered := errors.AsType[smithy.APIError](err)
	if !answered {
		_, unsigned := errors.AsType[*smithy.SerializationError](err)
		return !unsigned
	}
	return api.ErrorFault() == smithy.FaultServer || slices.Contains(throttling, api.ErrorCode())
}

// entryError turns the failure of one entry into an error; passes as above.
func entryError(failed types.BatchResultErrorEntry) (passes bool, err error) {
	code, text := aws.ToString(failed.Code), aws.ToString(failed.Message)
	passes = !failed.SenderFault || slices.Contains(throttling, code)
	err = fmt.Errorf("%s: %s", code, text)
	if slices.Contains([]string{"InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue"}, code) {
		err = fmt.Errorf("%w: %w", dedup.ErrBadOutput, err)
	}
	return passes, err
}

// pause waits, less than stop allows; false when stop is done.
func pause(stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		return false
	}
}

// longer is the next pause of a backoff.
func longer(d time.Duration) time.Duration {
	return min(max(2*d, 20*time.Millisecond), 5*time.Second)
}
