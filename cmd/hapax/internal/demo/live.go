package demo

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/charmbracelet/bubbles/progress"
	tea "github.com/charmbracelet/bubbletea"
	"github.com/charmbracelet/lipgloss"
)

// live shows a run on a terminal: the lanes side by side.
type live struct {
	program *tea.Program
	done    chan struct{}
}

func newLive(out io.Writer) *live {
	// The program reads no keys and catches no signals: Ctrl-C ends the command's
	// context, as it does without a terminal.
	return &live{
		program: tea.NewProgram(model{}, tea.WithOutput(out), tea.WithInput(nil), tea.WithoutSignalHandler()),
		done:    make(chan struct{}),
	}
}

func (l *live) begin(s settings, b broker) {
	go func() { defer close(l.done); _, _ = l.program.Run() }()
	l.program.Send(beginning{s, b, time.Now()})
}

func (l *live) end() { l.program.Quit(); <-l.done }

func (l *live) phase(name string, sent, of int)   { l.program.Send(phase{name, sent, of}) }
func (l *live) glance(lane string, counts glance) { l.program.Send(glanced{lane, counts}) }

func (l *live) log(lane string) *slog.Logger {
	return slog.New(faultLog{tell: func(text string) { l.program.Send(happened{lane, text}) }})
}

type (
	beginning struct {
		settings settings
		broker   broker
		at       time.Time
	}
	phase struct {
		name     string
		sent, of int
	}
	glanced struct {
		lane   string
		counts glance
	}
	happened struct{ lane, text string }
)

// model is the state of the live view.
type model struct {
	beginning
	phase
	lanes map[string]laneModel
}

type laneModel struct {
	glance
	news []string
}

const (
	laneWidth = 44
	newsLines = 4
)

func (m model) Init() tea.Cmd { return nil }

func (m model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case beginning:
		m.beginning, m.lanes = msg, map[string]laneModel{}
	case phase:
		m.phase = msg
	case glanced:
		lane := m.lanes[msg.lane]
		lane.glance = msg.counts
		m.lanes[msg.lane] = lane
	case happened:
		lane := m.lanes[msg.lane]
		lane.news = append(lane.news, msg.text)
		lane.news = lane.news[max(0, len(lane.news)-newsLines):]
		m.lanes[msg.lane] = lane
	}
	return m, nil
}

var (
	bold  = lipgloss.NewStyle().Bold(true)
	faint = lipgloss.NewStyle().Faint(true)
	bad   = lipgloss.NewStyle().Foreground(lipgloss.Color("9")).Bold(true)
	good  = lipgloss.NewStyle().Foreground(lipgloss.Color("10")).Bold(true)
	frame = lipgloss.NewStyle().Border(lipgloss.RoundedBorder()).Padding(0, 1).Width(laneWidth)
)

func (m model) View() string {
	if m.lanes == nil {
		return ""
	}
	head := fmt.Sprintf("%s  %s  %s\n%s  %s\n",
		bold.Render("Black Friday"), faint.Render(fmt.Sprintf("%s, seed %d", m.broker.name, m.settings.seed)),
		faint.Render(fmt.Sprintf("%.0f s", time.Since(m.at).Seconds())),
		bar(int64(m.sent), int64(max(m.of, 1)), laneWidth), bold.Render(m.name))
	return head + lipgloss.JoinHorizontal(lipgloss.Top, m.lane(lanePlain, "plain: do the work, then ack"), " ", m.lane(laneHapax, "Hapax")) + "\n"
}

func (m model) lane(name, title string) string {
	lane := m.lanes[name]
	duplicates := good.Render("0")
	if lane.Duplicates > 0 {
		duplicates = bad.Render(fmt.Sprint(lane.Duplicates))
	}
	lines := []string{
		bold.Render(title),
		bar(lane.Shipped, int64(m.settings.events), laneWidth-4),
		fmt.Sprintf("shipped %d of %d", lane.Shipped, m.settings.events),
		"duplicate shipments " + duplicates,
		faint.Render(fmt.Sprintf("%d deliveries, %d consumers, %d killed", lane.Deliveries, lane.Consumers, lane.Kills)),
		"",
	}
	for i := range newsLines {
		text := ""
		if i < len(lane.news) {
			text = lane.news[i]
		}
		lines = append(lines, faint.Render(text))
	}
	return frame.Render(strings.Join(lines, "\n"))
}

func bar(done, of int64, width int) string {
	return progress.New(progress.WithSolidFill("12"), progress.WithWidth(width)).ViewAs(min(1, float64(done)/float64(max(of, 1))))
}
