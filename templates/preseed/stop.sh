# Shows a text on the installer's screen, and returns once somebody has read it. Debconf's own channel is open by now.
stop() {
	cat >"$tmp/xenpair.templates" <<'END'
Template: xenpair/stop
Type: error
Description: xenpair cannot go on
 ${TEXT}
 .
 Enter tries again. The second console (Alt-F2) has a shell, the fourth one the log.
END
	debconf-loadtemplate xenpair "$tmp/xenpair.templates"
	logger -t xenpair "$1"
	db_subst xenpair/stop TEXT "$1"
	db_fset xenpair/stop seen false
	db_input critical xenpair/stop || true
	db_go || true
}
