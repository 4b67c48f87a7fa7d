package framework

import (
	"context"
	"slices"

	"github.com/hapax-go/hapax/adapters"
)

// checkOutputs asks the broker whether what handlers return is kept, where nobody in
// this service reads it. Only the code knows those topics: doctor cannot ask.
func (s *Service) checkOutputs(ctx context.Context) []adapters.Finding {
	checker, can := s.broker.(adapters.OutputChecker)
	if !can {
		return nil
	}
	names := s.topicNames()
	var topics []string
	for _, r := range s.registrations {
		read := slices.ContainsFunc(s.registrations, func(reader *registration) bool { return reader.topic == r.to })
		if r.to != "" && !read && !slices.Contains(topics, names.of(r.to)) {
			topics = append(topics, names.of(r.to))
		}
	}
	return checker.CheckOutputs(ctx, topics)
}
