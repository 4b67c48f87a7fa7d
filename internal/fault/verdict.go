package fault

import (
	"errors"
	"fmt"
)

// ErrProvedNothing: the control run, with deduplication off, was not found guilty
// of duplicates. The faults are too mild or the oracle is blind, so the real
// run's clean report is worth nothing.
var ErrProvedNothing = errors.New("the faults proved nothing")

// Verdict judges a scenario by two runs of it: the real one must be clean, and
// the control run, equal but for deduplication being off, must not be.
func Verdict(real, control Report) error {
	return errors.Join(real.Err(), Control(control))
}

// Control judges a control run. It must show duplicates: a control run that is
// guilty of something else only, such as a loss, says nothing about
// deduplication.
func Control(control Report) error {
	if control.DuplicateEffects > 0 || control.DuplicateOutputs > 0 && !control.exempt.outputs {
		return nil
	}
	err := fmt.Errorf("%w: without deduplication, %d events delivered %d times left no duplicate; kill more often or send more events",
		ErrProvedNothing, control.Events, control.Deliveries)
	if other := control.Err(); other != nil {
		return fmt.Errorf("%w; its other problems: %w", err, other)
	}
	return err
}
